"""`python -m fanfold`."""

from fanfold.cli import main

if __name__ == "__main__":
    main()

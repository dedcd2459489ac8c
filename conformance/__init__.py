"""What others' suites and clients say about `fanfold serve`: `make conformance`."""

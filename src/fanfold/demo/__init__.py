"""The demo: every Python distribution installed beside Fanfold is a document, and facts about it are the fields."""

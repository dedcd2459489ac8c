"""The ledger in one table of Amazon DynamoDB, which `docs/ledgers.md` shows. boto3 is imported in here, and late."""

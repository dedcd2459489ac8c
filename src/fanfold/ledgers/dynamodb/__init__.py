"""The ledger in one table of Amazon DynamoDB. `docs/ledgers.md` shows the table; boto3 is imported in here, and late."""

"""An SQS endpoint on the embedded engine: HTTP in, `SqsEngine.call`, HTTP out. What `fanfold serve` runs."""

"""The embedded SQS: FIFO queues in a SQLite file, as strict as Amazon's."""

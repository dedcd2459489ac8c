"""The seam to a queue: the protocol, and its implementations on Amazon SQS and on the embedded engine."""

"""What has happened: fan-outs, their tasks, attempts, results. The only place where "all done" is known."""

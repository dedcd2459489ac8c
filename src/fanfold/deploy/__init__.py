"""A queue that is set up right: provisioning, templates, checks, costs."""

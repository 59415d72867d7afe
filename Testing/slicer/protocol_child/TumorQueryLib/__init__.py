"""A child process that speaks the worker's protocol and does what its job says; for tests of the module's runner."""

"""Between the protocol's messages and the core's types. Nothing else in the server knows both."""

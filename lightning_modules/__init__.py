"""The two trained stages, and the emotion sources that drive them."""

"""The types of settings: how a text, or a value of a configuration file, is read and shown."""

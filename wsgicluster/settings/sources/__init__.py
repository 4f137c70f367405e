"""Where values come from: defaults, configuration file, environment, command line."""

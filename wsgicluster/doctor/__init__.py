"""The doctor: checks settings, surroundings and application for known problems; serves nothing."""

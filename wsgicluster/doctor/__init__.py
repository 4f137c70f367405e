"""The doctor: looks at settings, surroundings and application for what is known to bite, and serves nothing."""

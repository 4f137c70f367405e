"""``wsgicluster init``: writes a commented configuration file for the application of a folder."""

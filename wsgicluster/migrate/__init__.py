"""``wsgicluster migrate``: what a configuration of Gunicorn means here, by one table of all differences."""

"""Worker processes: they boot the application and serve connections."""

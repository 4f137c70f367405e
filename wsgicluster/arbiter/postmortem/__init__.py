"""Why a child died: evidence, diagnosis, and the record in the log."""

"""What the processes of one server agree on: messages, scoreboard, mailboxes, hand-off, and what each process is."""

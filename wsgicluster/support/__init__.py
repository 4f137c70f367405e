"""What the children that serve no connection, steward and jobs worker, have in common from fork to exit."""

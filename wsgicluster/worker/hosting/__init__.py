"""The open connections of one worker: how they are made, what they may ask of it, and how they leave it."""

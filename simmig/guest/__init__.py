"""The guest room: memory, what dirties it, and the machine that stops and resumes."""

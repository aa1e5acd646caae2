"""What migrations need besides Django: copies of code as it was when they were written.

Nothing here imports the application, and nothing here changes with it. A migration that has been released must make
the same schema for ever. Code that moves on gets a new copy beside the old one, and a new migration that uses it.
"""

"""Images of prompts: where they stand in a chat, and their bytes by reference (path or URL)."""

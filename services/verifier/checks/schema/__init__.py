"""`schema`: the completion's JSON is valid under a JSON Schema."""

"""Tools that the policy may call between its turns. The prompt's record never comes in here."""

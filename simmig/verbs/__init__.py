"""The verbs room: what the migration is handed (`runtime`, `api`) and who hands it over (`sim`)."""

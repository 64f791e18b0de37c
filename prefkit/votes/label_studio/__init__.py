"""Label Studio as a team's annotation tool: questions go there, votes come back as the same rows."""

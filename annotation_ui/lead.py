"""The lead's page."""


def show_lead(site, name):
    """Placeholder until written below."""

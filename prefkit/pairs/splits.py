"""Which condition trains and which tests: by identity and condition, never by pair."""

import pandas as pd

from prefkit.tables import content_id

SPLITS = ("train", "test")


def assign_splits(conditions: pd.DataFrame, test_fraction: float) -> dict[str, str]:
    """Says which condition trains and which tests.

    A split that the conditions name is kept, if they name both. Otherwise identities are held out by the
    hash of their name, so an identity stays where it is when others join; conditions of one identity (or
    of none) are held out one by one.

    Args:
        conditions: columns condition_id, identity, split.
        test_fraction: share of identities (about) that test.

    Returns:
        condition_id -> train or test.
    """
    named = conditions["split"].where(conditions["split"].isin(SPLITS))
    if set(named.dropna()) != {"train"} and named.notna().any():
        known = dict(zip(conditions["identity"][named.notna()], named.dropna(), strict=True))
        filled = named.fillna(conditions["identity"].map(known)).fillna("train")  # as the identity's others
        return dict(zip(conditions["condition_id"], filled, strict=True))
    groups = conditions["identity"].fillna(conditions["condition_id"])
    if groups.nunique() == 1:
        groups = conditions["condition_id"]
    place = {group: int(content_id("split", group), 16) / 16**16 for group in groups}
    test = {group for group, position in place.items() if position < test_fraction}
    if test_fraction > 0 and len(place) > 1:
        test = test or {min(place, key=lambda group: place[group])}
        test = test if len(test) < len(place) else test - {max(place, key=lambda group: place[group])}
    return {
        condition: "test" if group in test else "train"
        for condition, group in zip(conditions["condition_id"], groups, strict=True)
    }

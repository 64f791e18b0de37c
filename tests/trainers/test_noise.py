import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.noise import draw_noise, draw_timestep


@given(st.integers(0, 1000), st.text(max_size=20), st.integers(1, 20), st.integers(0, 3))
def test_draws_of_a_pair_cover_every_bin_once(seed: int, pair_id: str, draws: int, block: int) -> None:
    drawn = [
        draw_timestep(seed=seed, pair_id=pair_id, draw=block * draws + k, draws=draws, low=100, high=900)
        for k in range(draws)
    ]
    assert all(100 < timestep <= 900 for timestep in drawn)
    bins = sorted(int((timestep - 100 - 1e-9) / (800 / draws)) for timestep in drawn)
    assert bins == list(range(draws))


def test_noise_depends_on_seed_pair_and_draw_alone() -> None:
    shape = (24, 7, 16, 16)
    first = draw_noise(shape, seed=1, pair_id="p", draw=3)
    torch.manual_seed(5)
    torch.rand(7)
    assert torch.equal(first, draw_noise(shape, seed=1, pair_id="p", draw=3))
    for other in (
        {"seed": 2, "pair_id": "p", "draw": 3},
        {"seed": 1, "pair_id": "q", "draw": 3},
        {"seed": 1, "pair_id": "p", "draw": 4},
    ):
        different = draw_noise(shape, **other)  # type: ignore[arg-type]
        assert torch.corrcoef(torch.stack([first.flatten(), different.flatten()]))[0, 1].abs() < 0.03
    assert abs(first.mean()) < 0.02 and abs(first.std() - 1) < 0.02


def test_timesteps_are_uniform_over_pairs() -> None:
    drawn = torch.tensor([draw_timestep(seed=0, pair_id=str(p), draw=0, draws=8) for p in range(500)])
    assert abs(drawn.mean() - 500) < 50
    assert torch.histc(drawn, 4, 0, 1000).min() > 80

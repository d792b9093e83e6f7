from hypothesis import given
from hypothesis import strategies as st

from rlsd.data.order import order


@given(st.integers(0, 50), st.integers(), st.integers(0, 9))
def test_order_is_a_permutation(num_prompts: int, seed: int, epoch: int) -> None:
    assert sorted(order(num_prompts, seed=seed, epoch=epoch)) == list(range(num_prompts))


def test_order_is_the_same_on_every_machine_and_version() -> None:
    assert order(8, seed=0, epoch=0) == [7, 0, 1, 5, 3, 4, 2, 6]


def test_order_differs_by_seed_and_by_epoch() -> None:
    orders = {tuple(order(20, seed=s, epoch=e)) for s in (-1, 0, 1, 11) for e in (0, 1, 11)}
    assert len(orders) == 12


def test_added_prompts_leave_the_relative_order_of_the_others() -> None:
    longer = order(30, seed=3, epoch=2)
    assert [i for i in longer if i < 20] == order(20, seed=3, epoch=2)

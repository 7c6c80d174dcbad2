"""The order in which addresses are tried."""

from hypothesis import given
from hypothesis import strategies as st

from egress_policy.model.host import detect_ip_literal_family
from egress_policy.policy.attempts import interleave

literals = st.ip_addresses().map(str)


def test_families_take_turns_beginning_with_the_first() -> None:
    six, four = ["2001:db8::1", "2001:db8::2", "2001:db8::3"], ["192.0.2.1", "192.0.2.2"]
    assert interleave([*six, *four]) == (six[0], four[0], six[1], four[1], six[2])
    assert interleave([*four, *six]) == (four[0], six[0], four[1], six[1], six[2])
    assert interleave([]) == ()


@given(st.lists(literals))
def test_none_is_lost_and_each_family_keeps_its_order(addresses: list[str]) -> None:
    turns = interleave(addresses)
    known = list(dict.fromkeys(addresses))
    assert sorted(turns) == sorted(known)
    for family in (4, 6):
        of_family = [one for one in known if detect_ip_literal_family(one) == family]
        assert [one for one in turns if one in of_family] == of_family

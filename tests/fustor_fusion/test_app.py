import requests


def test_a_look_at_the_port_needs_no_key(fusion):
    response = requests.get(fusion.base.removesuffix("/api/v1") + "/", timeout=30)
    assert (response.status_code, response.json()) == (200, {"message": "Fustor Fusion 1.0.0"})


def test_what_is_not_served_is_a_404_with_a_reason(fusion):
    response = requests.get(fusion.base.removesuffix("/api/v1") + "/nothing", timeout=30)
    assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})

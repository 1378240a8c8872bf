# SPDX-License-Identifier: GPL-3.0-or-later
"""The circuit breaker as logins see it: what counts for it and what does not, that a trial of Postern's own decides, one
at a time, and that a backend's no clears it as well as a yes (scenarios 252 to 256)."""
import time

from harness import test
from logins import World, end


def state(w, destination="legacy"):
    return tuple(w.daemon.metric(f"postern_destination_{what}", destination=destination)
                 for what in ("consecutive_failures", "down"))


def goes_down(w, destination="legacy"):
    w.daemon.await_metric("postern_destination_down", 1, destination=destination)


def cooled_down(w):
    w.daemon.await_metric("postern_destination_down", 0, destination="legacy")


def fails(w, protocol, source=None):
    """A login whose backend greets with nothing and leaves."""
    client = w.client(protocol, source).attempt()
    w.server(protocol).close()
    client.told_unavailable()
    return w.record(client)


def turned_away(w, protocol):
    client = w.client(protocol).attempt().told_unavailable()
    assert w.record(client)["reason"] == "breaker_open"
    w.nothing(protocol, 0.03)


def taken_down(w, protocol):
    """As many failures as the threshold says, and the trial fails as well."""
    for _ in range(w.conf["server.host_down_threshold"]):
        fails(w, protocol)
    w.server(protocol).close()
    goes_down(w)


@test(quick=True)
def test_scenario_252_logins_at_a_dead_port_take_the_destination_down_for_all_protocols(t):
    w = World(t, server__host_down_threshold=3, server__host_down_cooldown="60s")
    w.reset_legs()
    for i, protocol in enumerate(("imap", "pop3", "submission")):
        assert state(w) == (i, 0)
        w.client(protocol).attempt().told_unavailable()
    goes_down(w)
    assert state(w) == (3, 1)
    assert w.daemon.metric("postern_destination_probes_total", destination="legacy", result="down") == 1
    client = w.client("managesieve").attempt().told_unavailable()
    assert w.record(client)["reason"] == "breaker_open"
    assert state(w) == (3, 1)


@test(quick=True)
def test_scenarios_253_and_254_one_client_raises_no_suspicion_and_two_do(t):
    w = World(t, server__host_down_threshold=3, server__host_down_cooldown="60s")
    for i in range(6):
        fails(w, w.protocols[i % 4])
        assert state(w) == (i + 1, 0)
    assert not w.daemon.find("destination suspected")
    fails(w, "imap", "127.0.0.2")
    w.daemon.wait("destination suspected", destination="legacy", protocol="imap")
    assert state(w) == (7, 0)
    client, server = w.logged_in("pop3")  # nobody is refused while the trial is on its way
    end(client, server)
    w.server("imap").tried()
    w.daemon.await_metric("postern_destination_probes_total", 1, destination="legacy", result="up")
    assert state(w) == (0, 0)

    for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        fails(w, "imap", source)
    w.server("imap").close()
    goes_down(w)
    w.daemon.wait("destination marked down", destination="legacy", fault="backend_closed")
    assert state(w) == (3, 1)
    turned_away(w, "pop3")


@test(quick=True)
def test_a_backend_that_lets_go_of_credentials_fails_and_one_that_says_no_does_not(t):
    """Scenario 256."""
    w = World(t, server__host_down_threshold=2, server__host_down_min_clients=0, server__host_down_cooldown="60s")
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        w.server(protocol).greet().taken().close()
        client.told_unavailable()
        assert state(w) == (1, 0)
        client = w.client(protocol).attempt(password="wrong")
        w.server(protocol).greet().taken(password="wrong").reject()
        client.hear(speech.reject).close()
        assert state(w) == (0, 0), "it answered"


@test(quick=True, limit=40)
def test_scenario_255_after_the_cooldown_a_trial_decides_for_which_one_login_waits(t):
    w = World(t, server__host_down_threshold=1, server__host_down_min_clients=0, server__host_down_cooldown="1s")
    for protocol, speech in w.each()[:1 if t.quick else 4]:
        taken_down(w, protocol)
        assert state(w) == (1, 1)
        turned_away(w, protocol)

        # The trial fails: the login that waited for it is turned away, and it is down for another second.
        cooled_down(w)
        client = w.client(protocol).attempt()
        server = w.server(protocol)
        turned_away(w, protocol)
        client.stream.silent(0.05)
        server.close()
        client.told_unavailable()
        assert w.record(client)["reason"] == "breaker_open"
        assert state(w) == (1, 1)
        turned_away(w, protocol)

        # The client does not wait for it: the trial goes on without it.
        cooled_down(w)
        client = w.client(protocol).attempt()
        server = w.server(protocol)
        client.stream.reset()
        assert w.record(client)["reason"] == "client_gone"
        turned_away(w, protocol)
        server.close()
        goes_down(w)

        # It succeeds: the login goes on, on a connection of its own.
        cooled_down(w)
        client = w.client(protocol).attempt()
        server = w.server(protocol)
        turned_away(w, protocol)
        server.tried()
        w.server(protocol).greet().taken().reject()
        client.hear(speech.reject).close()
        w.daemon.wait("destination is up again", destination="legacy")
        assert state(w) == (0, 0)
        client, server = w.logged_in(protocol)
        end(client, server)


@test(quick=True)
def test_a_login_waits_for_a_trial_no_longer_than_its_window(t):
    w = World(t, server__host_down_threshold=1, server__host_down_min_clients=0, server__host_down_cooldown="1s",
              server__backend_timeout="1s", protocols=("imap",))
    taken_down(w, "imap")
    cooled_down(w)
    began = time.monotonic()
    client = w.client("imap").attempt()
    server = w.server("imap")
    client.told_unavailable()
    assert 0.9 < time.monotonic() - began < t.scaled(1.8)
    goes_down(w)
    server.close()


@test(quick=True)
def test_another_destination_is_none_of_its_business(t):
    w = World(t, second=True, mapping="bob@example.com legacy2\n", server__host_down_threshold=1,
              server__host_down_min_clients=0, server__host_down_cooldown="60s")
    taken_down(w, "imap")
    assert (state(w), state(w, "legacy2")) == ((1, 1), (0, 0))
    client, server = w.logged_in("imap", "bob@example.com", second=True)
    end(client, server)
    # On one connection: turned away toward one means the end, so the other is reached by a connection of its own.
    turned_away(w, "imap")


@test(quick=True)
def test_the_window_of_a_silent_backend_counts_once_whatever_its_retries(t):
    w = World(t, server__host_down_threshold=0, server__backend_timeout="1s", server__backend_connect_retries=9)
    began = time.monotonic()
    clients = []
    for protocol, _ in w.each():
        clients.append(w.client(protocol).attempt())
        w.legs[protocol].accept()
    for client in clients:
        client.told_unavailable()
    assert 0.9 < time.monotonic() - began < t.scaled(1.9)
    assert state(w) == (4, 0)
    assert w.daemon.metric("postern_backend_attempts_total", destination="legacy") == 4

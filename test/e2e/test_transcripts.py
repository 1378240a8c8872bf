# SPDX-License-Identifier: GPL-3.0-or-later
"""The conversations of test/transcripts, word for word, against the daemon."""
from harness import test
from transcripts import play_all


@test(quick=True, limit=60)
def test_imap_word_for_word(t):
    play_all(t, "imap", 60)


@test(quick=True, limit=60)
def test_pop3_word_for_word(t):
    play_all(t, "pop3", 25)


@test(quick=True, limit=60)
def test_managesieve_word_for_word(t):
    play_all(t, "managesieve", 20)


@test(quick=True, limit=60)
def test_submission_word_for_word(t):
    play_all(t, "submission", 30)

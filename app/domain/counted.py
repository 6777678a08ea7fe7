"""What the counters mean, in words: every reason under which something is dropped, refused, repaired or late."""

from __future__ import annotations

COUNTED = {
    "trades": "rows of trades applied",
    "known": "rows delivered again, left out",
    "partial": "aggregates of which some ids were in already; their ids stay a hole",
    "too_late": "prints of Alpaca that came 20 hours after they were sent; bars come from history",
    "late_on_verified": "minutes left alone since the exchange's own bar stands there; they are checked again",
    "verified": "bars that were equal to the exchange's",
    "holes_out_of_reach": "holes given up since their source has nothing so old any more",
    "bars_let_go": "bars deleted since they are not kept any longer",
    "unequal_bars": "bars that were not equal to the exchange's, which stand in their place",
    "rollups_unequal": "longer bars that were not equal to the exchange's; their minutes are fetched again",
    "missing_bars_added": "bars the exchange had and we had not",
    "bars_taken_back": "bars of stocks that the exchange has no more",
    "corrections": "prints Alpaca corrected",
    "cancels": "prints Alpaca took back",
    "amended_unknown": "corrections of prints no longer remembered; everything since the opening is fetched again",
    "repaired_bars": "bars that repair changed or verified",
    "missing_trades": "ids found missing",
    "batches_lost": "batches that never came",
    "holes_scanned": "stretches without bars that only the scan found",
    "polls_failed": "polls of one symbol of Yahoo that failed",
    "buffer_full": "trades dropped since the broker was away too long; repair brings them",
    "official_dropped": "the exchange's bars dropped for the same reason; bars come from history",
    "doubts_dropped": "corrections dropped for the same reason; bars come from history",
    "number_too_big": "trades whose price or size does not fit; their ids stay a hole",
    "outside_session": "prints of US stocks outside their session",
    "bar_outside_session": "bars of US stocks outside their session",
    "not_in_bars": "prints whose conditions keep them out of bars",
    "unknown_condition": "conditions in no table, taken for regular",
    "not_subscribed": "symbols Alpaca does not send",
    "malformed_frame": "frames that could not be read",
    "malformed_message": "messages that could not be read",
    "refused_request": "requests a stream refused",
    "subscription_failed": "subscriptions that failed",
    "stream_silent": "connections replaced since nothing came",
    "server_shutdown": "times Binance announced the end of a server",
    "newer_messages": "messages of a newer program that no worker could read for five minutes; they are parked",
    "refused_batches": "messages that are no trade batch; they are parked",
    "failed_tasks": "tasks that failed as nobody foresaw; what they carried is parked",
    "parked": "messages delivered too often, put aside",
    "parked_dropped": "parked messages dropped since only the newest hundred are kept; repair brings their trades",
    "ledger_in_pieces": "looks at a ledger of too many pieces",
}
_OF_SOURCE = {
    "_rate_limited": "requests the exchange answered with “wait”",
    "_away": "requests without an answer, or with a broken one",
    "_refused": "requests refused for good",
}


def meaning(reason: str) -> str:
    """What a counter counts; empty for one that is not known here."""
    if reason in COUNTED:
        return COUNTED[reason]
    return next((words for ending, words in _OF_SOURCE.items() if reason.endswith(ending)), "")

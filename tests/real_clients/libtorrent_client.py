#!/usr/bin/python3
"""A client on libtorrent: libtorrent_client.py TORRENT DIRECTORY ADDRESS

Listens on a port that the system chooses.

Downloads into the directory, or seeds what is there. Says "announced" when the
tracker has answered and "complete" when it has the whole file. A line on
standard input makes it announce again; its end makes the client tell the
tracker that it stops, wait for the answer and exit.
"""

import select
import signal
import sys

import libtorrent

torrent, directory, address = sys.argv[1:]

# Its input says when to stop.
signal.signal(signal.SIGINT, signal.SIG_IGN)

session = libtorrent.session(
    {
        "listen_interfaces": f"[{address}]:0" if ":" in address else f"{address}:0",
        "outgoing_interfaces": address,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        # One address of this host is as good as another here.
        "allow_multiple_connections_per_ip": True,
        "alert_mask": libtorrent.alert.category_t.tracker_notification
        | libtorrent.alert.category_t.status_notification
        | libtorrent.alert.category_t.error_notification,
    }
)
settings = libtorrent.add_torrent_params()
settings.ti = libtorrent.torrent_info(torrent)
settings.save_path = directory
settings.flags |= libtorrent.torrent_flags.disable_pex
settings.flags &= ~libtorrent.torrent_flags.auto_managed
settings.flags &= ~libtorrent.torrent_flags.paused
handle = session.add_torrent(settings)


def say(text):
    print(text, flush=True)


stopping = False
while True:
    session.wait_for_alert(100)
    for alert in session.pop_alerts():
        if isinstance(alert, libtorrent.tracker_reply_alert):
            if stopping:
                say("stopped")
                sys.exit(0)
            say(f"announced, {alert.num_peers} peers")
        elif isinstance(alert, libtorrent.torrent_finished_alert):
            say("complete")
        else:
            print(alert.message(), file=sys.stderr, flush=True)
    if not stopping and select.select([sys.stdin], [], [], 0)[0]:
        if sys.stdin.readline():
            handle.force_reannounce(0, -1, libtorrent.reannounce_flags_t.ignore_min_interval)
        else:
            stopping = True
            handle.pause()

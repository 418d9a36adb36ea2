#!/bin/sh
# Runs once. Serves the context for as long as the guest lives.
cat >/etc/systemd/system/site.service <<'UNIT'
[Service]
ExecStart=/usr/bin/python3 -m http.server --directory /etc/nocloud/context 80
WorkingDirectory=/
[Install]
WantedBy=multi-user.target
UNIT
systemctl enable --now site.service

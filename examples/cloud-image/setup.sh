#!/bin/sh
# Runs once. Serves the context for as long as the guest lives.
cat >/etc/systemd/system/site.service <<'UNIT'
[Service]
ExecStart=/usr/bin/python3 -m http.server --directory /etc/nocloud/context 80
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
UNIT
systemctl enable --now site.service
for _ in $(seq 60); do
    ss -ltn | grep -q ':80 ' && exit 0
    sleep 1
done
exit 1

# shellcheck shell=bash
# The network half of selftest.sh: OVN over TLS with a throw-away authority, and two guests on one logical switch. The
# guests are network namespaces with a veth, which OVN cannot tell from a machine's tap. Sourced by selftest.sh.

# --- TLS, as the product's client mode sets it up (see docs/lab.md) ---

make_authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=lab \
        -keyout "$SCRATCH/ca.key" -out "$SCRATCH/ca.pem"
}
# The certificate's name is the chassis' name: the role ovn-controller compares the two.
make_certificate() { # HOST: key.pem, cert.pem and ca.pem in its /etc/openvswitch
    local to=$LAB_DIR/$1/etc/openvswitch
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
        -keyout "$to/key.pem" -out "$SCRATCH/$1.csr" \
        && openssl x509 -req -days 2 -in "$SCRATCH/$1.csr" -CA "$SCRATCH/ca.pem" -CAkey "$SCRATCH/ca.key" \
            -CAcreateserial -out "$to/cert.pem" \
        && cp -- "$SCRATCH/ca.pem" "$to/ca.pem"
}
TLS_FILES=(/etc/openvswitch/key.pem /etc/openvswitch/cert.pem /etc/openvswitch/ca.pem)

serve_tls() {
    make_authority && make_certificate m \
        && on m ovn-sbctl set-ssl "${TLS_FILES[@]}" -- set-connection role=ovn-controller pssl:6642 \
        && wait_until 5 "m listens on port 6642" listens
}
listens() { [[ -n $(on m ss -Hltn 'sport = :6642') ]]; }

join_tls() { # HOST
    make_certificate "$1" \
        && on "$1" ovs-vsctl set-ssl "${TLS_FILES[@]}" -- set Open_vSwitch . "external_ids:system-id=$1" \
            external_ids:ovn-encap-type=geneve "external_ids:ovn-encap-ip=$(data_address "$1")" \
            "external_ids:ovn-remote=ssl:$(mgmt_address m):6642" \
        && wait_until 10 "$1 is a chassis" is_chassis "$1"
}
role_holds() {
    not on h1 ovn-sbctl --timeout=5 --db="ssl:$(mgmt_address m):6642" -p "${TLS_FILES[0]}" -c "${TLS_FILES[1]}" \
        -C "${TLS_FILES[2]}" chassis-del m && is_chassis m
}

# --- two guests ---

guest_address() { echo "10.0.7.${1#g}"; }
guest_mac() { echo "02:00:00:00:07:0${1#g}"; }

plug_guest() { # HOST GUEST
    local host=$1 guest=$2
    # shellcheck disable=SC2016 # for the shell inside
    on "$host" sh -ec 'ip netns add $1
        ip link add $1-tap type veth peer name eth0 netns $1
        ip -n $1 link set lo up
        ip -n $1 link set eth0 address $2 mtu 1442 up
        ip -n $1 address add $3/24 dev eth0
        ip netns exec $1 ethtool -K eth0 tx off tso off gso off
        ip link set $1-tap up
        ovs-vsctl --may-exist add-port br-int $1-tap -- set interface $1-tap external_ids:iface-id=$1' \
        plug "$guest" "$(guest_mac "$guest")" "$(guest_address "$guest")"
}
in_guest() { local host=$1 guest=$2; shift 2; on "$host" ip netns exec "$guest" "$@"; }
ovn_follows() { on m ovn-nbctl --wait=hv --timeout=10 sync; }
guests_meet() { in_guest m g1 busybox ping -c 1 -W 1 "$(guest_address g2)"; }

guests_across() {
    on m ovn-nbctl ls-add lan \
        -- lsp-add lan g1 -- lsp-set-addresses g1 "$(guest_mac g1) $(guest_address g1)" \
        -- lsp-add lan g2 -- lsp-set-addresses g2 "$(guest_mac g2) $(guest_address g2)" \
        && plug_guest m g1 && plug_guest h1 g2 && ovn_follows && wait_until 20 "g1 reaches g2" guests_meet
}
tcp_across() {
    local site=$LAB_DIR/h1/run/site
    mkdir -p "$site" && head -c 5000000 /dev/urandom >"$site/data" || return 1
    in_guest h1 g2 busybox httpd -p 8080 -h /run/site || return 1
    same "$(sha256sum <"$site/data")" \
        "$(in_guest m g1 timeout 20 busybox wget -q -O - "http://$(guest_address g2):8080/data" | sha256sum)"
}

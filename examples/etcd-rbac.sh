#!/bin/sh
# Who may do what in the etcd of a mesh. It needs etcdctl, whose own environment says where etcd is and who asks:
#
#	export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=https://10.0.0.1:2379 ETCDCTL_CACERT=ca.pem ETCDCTL_CERT=root.pem ETCDCTL_KEY=root.key
#	examples/etcd-rbac.sh init                  # the roles that all share
#	examples/etcd-rbac.sh operator alice        # alice may write the documents
#	examples/etcd-rbac.sh host web-17           # the agents of the machine web-17
#	examples/etcd-rbac.sh group bj-a. bj-a      # those of all machines whose names begin with "bj-a."
#	examples/etcd-rbac.sh enable                # at last: from now on etcd asks who you are
#
# It may be run again at any time, and changes nothing that is right already.
#
# The user is the common name (CN) of the client's certificate, if etcd runs with --client-cert-auth and --trusted-ca-file:
# no password is then kept anywhere, and a machine's identity ends with its certificate. The authority must sign for etcd's
# clients only. With PASSWORD in the environment, users get that password instead, for the option `credentials`.
#
#	keys below the prefix          | agents                            | operators
#	config/…    documents, bans    | read                              | read, write
#	bans/<host>/…   told bans      | read and write their own host's   | read
#	agents/<id>     presence       | read and write their own          | read
#
# Nothing that an agent may write changes what another machine's agents do.
#
# At 100,000 machines. A role and a user for each machine is right for some thousands: etcd 3.7 goes through all users at each
# change of one (measured on two cores: 1,000 machines take 25 s, the 500 after the first 2,500 another 94 s; at 100,000 it
# would be days). Beyond, let one user stand for a group of machines, such as a rack: call the machines bj-a.r12.web-17
# (CoreDNS's option `host`, the machine's own name for Caddy, and `agent_id`); `group bj-a.r12. bj-a-r12` lets the user
# bj-a-r12 do for all that begin with "bj-a.r12." what `host` lets one do. All of a stolen certificate's power is then to ban
# instances in the eyes of one rack. A gRPC proxy of etcd's is a client with a certificate of its own, for all who are behind
# it: it needs the permissions of its group.
set -eu

prefix=${UFC_PREFIX:-/ufc/v1}

usage() {
	sed -n 's/^#\t\(examples[^ ]* .*\)/\1/p' "$0" >&2
	exit 2
}

role() { etcdctl role get "$1" >/dev/null 2>&1 || etcdctl role add "$1"; }

# grant ROLE read|write|readwrite KEY [--prefix]
grant() { etcdctl role grant-permission "$@" >/dev/null; }

# user NAME ROLE...
user() {
	name=$1
	shift
	if ! etcdctl user get "$name" >/dev/null 2>&1; then
		if [ -n "${PASSWORD:-}" ]; then
			printf '%s\n' "$PASSWORD" | etcdctl user add "$name" --interactive=false
		else
			etcdctl user add "$name" --no-password
		fi
	fi
	for role in "$@"; do
		etcdctl user grant-role "$name" "$role" >/dev/null
	done
}

case "${1:-} $#" in
"init 1")
	role ufc-agent
	grant ufc-agent read "$prefix/config/" --prefix
	role ufc-operator
	grant ufc-operator readwrite "$prefix/config/" --prefix
	grant ufc-operator read "$prefix/bans/" --prefix
	grant ufc-operator read "$prefix/agents/" --prefix
	;;
"operator 2")
	user "$2" ufc-operator
	;;
"host "[2-9]) # HOST [USER [AGENT_ID...]]; the user and the one agent_id are the host's name by default
	host=$2
	name=${3:-$2}
	shift
	[ $# -eq 0 ] || shift
	[ $# -eq 0 ] || shift
	[ $# -gt 0 ] || set -- "$host"
	role "ufc-host-$host"
	grant "ufc-host-$host" readwrite "$prefix/bans/$host/" --prefix
	for id in "$@"; do
		grant "ufc-host-$host" readwrite "$prefix/agents/$id"
	done
	user "$name" ufc-agent "ufc-host-$host"
	;;
"group 3") # BEGINNING USER: hosts and agent_ids that begin so
	role "ufc-group-$2"
	grant "ufc-group-$2" readwrite "$prefix/bans/$2" --prefix
	grant "ufc-group-$2" readwrite "$prefix/agents/$2" --prefix
	user "$3" ufc-agent "ufc-group-$2"
	;;
"enable 1")
	role root
	user root root
	etcdctl auth enable
	;;
*) usage ;;
esac

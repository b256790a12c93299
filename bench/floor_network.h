/* floor.c, the network's side: a bridge, a veth pair, an address, as raw rtnetlink messages. Part of floor.c. */

struct message { struct nlmsghdr head; char body[2048]; };

static void *extend(struct message *m, size_t size) {
    void *place = (char *)m + m->head.nlmsg_len;
    memset(place, 0, NLMSG_ALIGN(size));
    m->head.nlmsg_len += NLMSG_ALIGN(size);
    return place;
}

static struct rtattr *attribute(struct message *m, int type, const void *data, size_t size) {
    struct rtattr *a = extend(m, RTA_LENGTH(size));
    a->rta_type = (unsigned short)type;
    a->rta_len = (unsigned short)RTA_LENGTH(size);
    if (size)
        memcpy(RTA_DATA(a), data, size);
    return a;
}

static void end_nested(struct message *m, struct rtattr *a) {
    a->rta_len = (unsigned short)((char *)m + m->head.nlmsg_len - (char *)a);
}

static void *begin(struct message *m, int type, int flags, size_t body) {
    memset(&m->head, 0, sizeof m->head);
    m->head.nlmsg_len = NLMSG_HDRLEN;
    m->head.nlmsg_type = (unsigned short)type;
    m->head.nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags);
    return extend(m, body);
}

static void ask(int sock, struct message *m, const char *what) {
    struct message answer;
    must(send(sock, m, m->head.nlmsg_len, 0) >= 0, what);
    must(recv(sock, &answer, sizeof answer, 0) >= 0, what);
    struct nlmsgerr *error = NLMSG_DATA(&answer.head);
    errno = -error->error;
    must(error->error == 0, what);
}

static int rtnetlink(void) {
    int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    must(sock >= 0, "rtnetlink");
    return sock;
}

static void link_up(int sock, int index) {
    struct message m;
    struct ifinfomsg *link = begin(&m, RTM_NEWLINK, 0, sizeof *link);
    link->ifi_index = index;
    link->ifi_flags = link->ifi_change = IFF_UP;
    ask(sock, &m, "link up");
}

static void make_bridge(int sock) {
    struct message m;
    begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
    attribute(&m, IFLA_IFNAME, bridge, strlen(bridge) + 1);
    struct rtattr *info = attribute(&m, IFLA_LINKINFO, NULL, 0);
    attribute(&m, IFLA_INFO_KIND, "bridge", 6);
    end_nested(&m, info);
    ask(sock, &m, "bridge");
    bridge_index = (int)if_nametoindex(bridge);
    link_up(sock, bridge_index);
}

static void remove_bridge(void) {
    struct message m;
    int sock = rtnetlink();
    struct ifinfomsg *link = begin(&m, RTM_DELLINK, 0, sizeof *link);
    link->ifi_index = bridge_index;
    bridge_index = 0;
    ask(sock, &m, "bridge");
    close(sock);
}

/* Both ends in one message: the host's on the bridge and up, eth0 in the child's namespace. */
static void make_veth(int sock, int run, pid_t child) {
    struct message m;
    char name[IFNAMSIZ];
    snprintf(name, sizeof name, "fl%x.%d", getpid() & 0xffff, run % 1000);
    struct ifinfomsg *link = begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *link);
    link->ifi_flags = link->ifi_change = IFF_UP;
    attribute(&m, IFLA_IFNAME, name, strlen(name) + 1);
    attribute(&m, IFLA_MASTER, &bridge_index, sizeof bridge_index);
    struct rtattr *info = attribute(&m, IFLA_LINKINFO, NULL, 0);
    attribute(&m, IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = attribute(&m, IFLA_INFO_DATA, NULL, 0);
    struct rtattr *peer = attribute(&m, VETH_INFO_PEER, NULL, 0);
    extend(&m, sizeof(struct ifinfomsg));
    attribute(&m, IFLA_IFNAME, "eth0", 5);
    attribute(&m, IFLA_NET_NS_PID, &child, sizeof child);
    end_nested(&m, peer);
    end_nested(&m, data);
    end_nested(&m, info);
    ask(sock, &m, "veth");
}

static void set_up_network(void) {
    int sock = rtnetlink(), index;
    uint32_t address = htonl(0xc6336402), gateway = htonl(0xc6336401); /* 198.51.100.2, .1 */
    struct message m;
    link_up(sock, 1);
    if (with_network) {
        index = (int)if_nametoindex("eth0");
        struct ifaddrmsg *a = begin(&m, RTM_NEWADDR, NLM_F_CREATE, sizeof *a);
        *a = (struct ifaddrmsg){.ifa_family = AF_INET, .ifa_prefixlen = 24, .ifa_index = (unsigned)index};
        attribute(&m, IFA_LOCAL, &address, 4);
        attribute(&m, IFA_ADDRESS, &address, 4);
        ask(sock, &m, "address");
        link_up(sock, index);
        struct rtmsg *r = begin(&m, RTM_NEWROUTE, NLM_F_CREATE, sizeof *r);
        *r = (struct rtmsg){.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
                            .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
        attribute(&m, RTA_GATEWAY, &gateway, 4);
        ask(sock, &m, "route");
    }
    close(sock);
}

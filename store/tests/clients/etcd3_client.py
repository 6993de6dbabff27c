"""Python's etcd3 against a member, over TLS, first without and then with users and roles."""

import sys
import threading

import etcd3
import etcd3.etcdrpc as rpc

port, ca, cert, key = int(sys.argv[1]), *sys.argv[2:5]


def client(**credentials):
    return etcd3.client(
        host="127.0.0.1", port=port, ca_cert=ca, cert_cert=cert, cert_key=key, timeout=20, **credentials
    )


def refused(work):
    try:
        work()
    except Exception as error:  # The library has no class of its own for these.
        return "permission denied" in str(error) or "authentication failed" in str(error)
    return False


def exercise(etcd):
    etcd.put("app/a", "1")
    assert etcd.get("app/a")[0] == b"1"
    done, answers = etcd.transaction(
        compare=[etcd.transactions.value("app/a") == "1"],
        success=[etcd.transactions.put("app/b", "2"), etcd.transactions.get("app/a")],
        failure=[],
    )
    assert done and answers[1][0][0] == b"1", (done, answers)
    seen, heard = [], threading.Event()

    def hear(response):
        seen.extend(response.events)
        heard.set()

    watch = etcd.add_watch_prefix_callback("app/", hear)
    etcd.put("app/c", "3")
    assert heard.wait(20) and seen[0].key == b"app/c", seen
    etcd.cancel_watch(watch)
    lease = etcd.lease(60)
    etcd.put("app/leased", "x", lease=lease)
    assert lease.remaining_ttl > 0 and lease.granted_ttl == 60
    lease.refresh()
    lease.revoke()
    assert etcd.get("app/leased")[0] is None
    assert sorted(meta.key for _, meta in etcd.get_prefix("app/")) == [b"app/a", b"app/b", b"app/c"]
    assert etcd.delete_prefix("app/").deleted == 3


def auth(etcd, method, request):
    """The library has no calls to administrate users."""
    return getattr(rpc.AuthStub(etcd.channel), method)(request, timeout=20)


open_client = client()
exercise(open_client)
with open_client.lock("app/lock", ttl=20):
    pass
for user in ["root", "app"]:
    auth(open_client, "UserAdd", rpc.AuthUserAddRequest(name=user, password="pw"))
auth(open_client, "UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
auth(open_client, "RoleAdd", rpc.AuthRoleAddRequest(name="app"))
grant = rpc.AuthRoleGrantPermissionRequest(name="app")
grant.perm.permType, grant.perm.key, grant.perm.range_end = 2, b"app/", b"app0"
auth(open_client, "RoleGrantPermission", grant)
auth(open_client, "UserGrantRole", rpc.AuthUserGrantRoleRequest(user="app", role="app"))
auth(open_client, "AuthEnable", rpc.AuthEnableRequest())

assert refused(lambda: open_client.get("app/a"))
assert refused(lambda: client(user="app", password="wrong"))
app = client(user="app", password="pw")
exercise(app)
assert refused(lambda: app.put("other", "1"))
assert refused(lambda: app.get_prefix("ap").__next__())
root = client(user="root", password="pw")
root.put("other", "1")
assert root.get("other")[0] == b"1"
print("well")

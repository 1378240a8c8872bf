# SPDX-License-Identifier: GPL-3.0-or-later
"""What Dovecot 2.3 (Debian 12) and 2.4 (Debian 13) call the same things, so that a test's configuration says what it wants
and not to which of them."""
import functools
import os
import shutil
import subprocess


@functools.cache
def version():
    """As it says itself, or "" where there is none."""
    program = shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin")
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout if program else ""


def old():
    return version().startswith("2.3")


def opening():
    """What 2.4 wants to read before anything else."""
    return "" if old() else "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"


def user():
    """The whole name of a user, in a path."""
    return "%u" if old() else "%{user}"


def address():
    """Where a listener listens."""
    return "address" if old() else "listen"


def certificate(chain, key):
    if old():
        return f"ssl_cert = <{chain}\nssl_key = <{key}\n"
    return f"ssl_server_cert_file = {chain}\nssl_server_key_file = {key}\n"


def maildir(path):
    if old():
        return f"mail_location = maildir:{path}\n"
    return f"mail_driver = maildir\nmail_path = {path}\n"


def block(kind, driver, lines, fields=None, name=""):
    """A passdb or userdb with lines of its own and, in 2.4, a block of fields; there two of one name would be one."""
    inner = "".join(f"  {line}\n" for line in lines)
    if old():
        return f"{kind} {{\n  driver = {driver}\n{inner}}}\n"
    if fields:
        inner += "  fields {\n" + "".join(f"    {name} = {value}\n" for name, value in fields.items()) + "  }\n"
    return f"{kind} {name or driver} {{\n  driver = {driver}\n{inner}}}\n"


def password_file(path, *, mechanisms="", master=False):
    """A passdb; of masters, if so said, after whom the user himself is looked up."""
    lines = [f"args = username_format=%u {path}" if old() else f"passwd_file_path = {path}"]
    if not old():
        lines.append("auth_username_format = %{user}")
    if mechanisms:
        lines.append(f"mechanisms = {mechanisms}" if old() else f"mechanisms_filter = {mechanisms}")
    if master:
        lines += ["master = yes", "result_success = continue"]
    return block("passdb", "passwd-file", lines, name="masters" if master else "")


def any_password():
    return block("passdb", "static", ["args = nopassword=y"] if old() else [], {"nopassword": "yes"})


def one_password(password):
    return block("passdb", "static", [f"args = password={password}" if old() else f"password = {password}"])


def tokens(folder, keys, mechanisms="oauthbearer xoauth2"):
    """A passdb that judges tokens by itself, with the keys below `keys`; in 2.3 that takes a file in `folder`."""
    if old():
        with open(f"{folder}/oauth2.conf", "w", encoding="utf-8") as f:
            f.write(f"introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={keys}/\nusername_attribute = email\n")
        return block("passdb", "oauth2", [f"mechanisms = {mechanisms}", f"args = {folder}/oauth2.conf"])
    return f"""oauth2 {{
  introspection_mode = local
  username_attribute = email
  oauth2_local_validation {{
    dict fs {{
      fs posix {{
        prefix = {keys}/
      }}
    }}
  }}
}}
passdb oauth2 {{
  mechanisms_filter = {mechanisms}
}}
"""


def users(uid, gid, home):
    """A userdb in which everybody is, under one account of this machine."""
    fields = {"uid": uid, "gid": gid, "home": home}
    if old():
        return block("userdb", "static", ["args = " + " ".join(f"{k}={v}" for k, v in fields.items()) + " allow_all_users=yes"])
    return block("userdb", "static", ["allow_all_users = yes"], fields)


def user_file(path, own):
    """A userdb that can list its users; `own` in place of what the file says."""
    if old():
        override = " ".join(f"{name}={value}" for name, value in own.items())
        return block("userdb", "passwd-file", [f"args = {path}", f"override_fields = {override}"])
    return block("userdb", "passwd-file", [f"passwd_file_path = {path}"], own)


def sieve():
    """Where a user's filters are."""
    if old():
        return "plugin {\n  sieve = file:~/sieve;active=~/.dovecot.sieve\n}\n"
    return "sieve_script personal {\n  driver = file\n  path = ~/sieve\n  active_path = ~/.dovecot.sieve\n}\n"


def cleartext_logins():
    return "disable_plaintext_auth = no\n" if old() else "auth_allow_cleartext = yes\n"


def default_domain(domain):
    return f"{'auth_default_realm' if old() else 'auth_default_domain'} = {domain}\n"


def login_facts():
    """What a line of the log says of a login."""
    if old():
        return ("login_log_format_elements = user=<%u> method=%m rip=%r rport=%{rport} lip=%l lport=%{lport} secured=%c "
                "session=<%{session}>\n")
    return ("login_log_format_elements = user=<%{user}> method=%{mechanism} rip=%{remote_ip} rport=%{remote_port} lip=%{local_ip} "
            "lport=%{local_port} secured=%{secured} session=<%{session}>\n")


def reused(count=0):
    """A service whose processes serve one client after another: 0, without end."""
    if old():
        return f"service_count = {count}\n"
    return f"restart_request_count = {count or 'unlimited'}\n"

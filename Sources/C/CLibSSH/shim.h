#ifndef NASSYNC_CLIBSSH_SHIM_H
#define NASSYNC_CLIBSSH_SHIM_H
#include <libssh/libssh.h>
// Signs of life are declared on the server's side.
#include <libssh/server.h>
// The options are passed as addresses of anything: in Swift each kind wants its own name.
static inline int nassync_ssh_option_text(ssh_session session, enum ssh_options_e option, const char *text) {
  return ssh_options_set(session, option, text);
}
static inline int nassync_ssh_option_number(ssh_session session, enum ssh_options_e option, int number) {
  return ssh_options_set(session, option, &number);
}
static inline int nassync_ssh_option_socket(ssh_session session, socket_t socket) {
  return ssh_options_set(session, SSH_OPTIONS_FD, &socket);
}
// A session is an opaque address, and the functions that tell what went wrong take any.
static inline const char *nassync_ssh_error(ssh_session session) { return ssh_get_error(session); }
static inline int nassync_ssh_error_code(ssh_session session) { return ssh_get_error_code(session); }
#endif

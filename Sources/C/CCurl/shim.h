#ifndef NASSYNC_CCURL_SHIM_H
#define NASSYNC_CCURL_SHIM_H
#include <curl/curl.h>

/* curl_easy_setopt, curl_easy_getinfo and curl_multi_setopt are variadic, which Swift cannot call: one wrapper a type of argument. */
static inline CURLcode nassync_curl_set_long(CURL *easy, CURLoption option, long value) { return curl_easy_setopt(easy, option, value); }
static inline CURLcode nassync_curl_set_size(CURL *easy, CURLoption option, curl_off_t value) {
  return curl_easy_setopt(easy, option, value);
}
static inline CURLcode nassync_curl_set_text(CURL *easy, CURLoption option, const char *value) {
  return curl_easy_setopt(easy, option, value);
}
static inline CURLcode nassync_curl_set_pointer(CURL *easy, CURLoption option, void *value) {
  return curl_easy_setopt(easy, option, value);
}
static inline CURLcode nassync_curl_set_list(CURL *easy, struct curl_slist *value) {
  return curl_easy_setopt(easy, CURLOPT_HTTPHEADER, value);
}
typedef size_t (*nassync_curl_transfer)(char *bytes, size_t size, size_t count, void *context);
static inline CURLcode nassync_curl_set_transfer(CURL *easy, CURLoption option, nassync_curl_transfer function) {
  return curl_easy_setopt(easy, option, function);
}
typedef int (*nassync_curl_seek)(void *context, curl_off_t offset, int origin);
static inline CURLcode nassync_curl_set_seek(CURL *easy, nassync_curl_seek function) {
  return curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, function);
}
typedef int (*nassync_curl_connected)(void *context, char *remote, char *local, int remote_port, int local_port);
static inline CURLcode nassync_curl_set_connected(CURL *easy, nassync_curl_connected function) {
  return curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, function);
}
static inline CURLMcode nassync_curl_multi_set_long(CURLM *multi, CURLMoption option, long value) {
  return curl_multi_setopt(multi, option, value);
}
static inline CURLcode nassync_curl_get_long(CURL *easy, CURLINFO info, long *value) { return curl_easy_getinfo(easy, info, value); }
/* The result of a finished transfer: a member of an anonymous union. */
static inline CURLcode nassync_curl_result(const CURLMsg *message) { return message->data.result; }
/* Casts and shifts of unsigned long, which Swift does not import. */
static const long nassync_curl_basic = (long)CURLAUTH_BASIC;
static const long nassync_curl_digest = (long)CURLAUTH_DIGEST;
static const long nassync_curl_bearer = (long)CURLAUTH_BEARER;
static const long nassync_curl_tls12 = (long)CURL_SSLVERSION_TLSv1_2;
static const long nassync_curl_http11 = (long)CURL_HTTP_VERSION_1_1;
#endif

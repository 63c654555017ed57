// Tests on this machine, with the sanitizers: what the plugin makes of a batch, and that it keeps within a broken one.
#include <stdio.h>

#include "../plugin.c"
#include "host.h"

// What the bindings have, without WebAssembly.
void processor_string_dup(processor_string_t *text, const char *from) {
  text->len = strlen(from);
  text->ptr = malloc(text->len + 1);
  memcpy(text->ptr, from, text->len);
}
void processor_string_free(processor_string_t *text) { free(text->ptr); }
void processor_list_u8_free(processor_list_u8_t *list) { free(list->ptr); }

static int passed, failed;

static void check(bool holds, const char *what) {
  if (holds) {
    passed++;
  } else {
    failed++;
    printf("FAILED  %s\n", what);
  }
}

// What is wrong with a configuration, or NULL.
static const char *configure(exports_tidegate_plugin_guest_signal_t signal, const char *json) {
  static char wrong[200];
  processor_string_t text, problem = {0};
  exports_tidegate_plugin_guest_setup_t setup;
  processor_string_dup(&text, json);
  if (exports_tidegate_plugin_guest_configure(signal, &text, &setup, &problem)) return NULL;
  snprintf(wrong, sizeof wrong, "%.*s", (int)problem.len, (const char *)problem.ptr);
  processor_string_free(&problem);
  return wrong;
}

// Takes a copy that is exactly as long, so that reading beyond it is noticed. Whether the plugin gave an outcome.
static bool process(const uint8_t *batch, size_t length, struct buffer *out, uint64_t *lost) {
  processor_list_u8_t copy = {malloc(length == 0 ? 1 : length), length};
  exports_tidegate_plugin_guest_outcome_t outcome;
  processor_string_t problem = {0};
  memcpy(copy.ptr, batch, length);
  memset(out, 0, sizeof *out);
  *lost = 0;
  if (!exports_tidegate_plugin_guest_process(&copy, &outcome, &problem)) {
    processor_string_free(&problem);
    return false;
  }
  if (outcome.data.tag == TIDEGATE_PLUGIN_TYPES_DATA_REPLACED) {
    append(out, outcome.data.val.replaced.ptr, outcome.data.val.replaced.len);
    free(outcome.data.val.replaced.ptr);
  }
  for (size_t at = 0; at < outcome.losses.len; at++) {
    *lost += outcome.losses.ptr[at].items;
    processor_string_free(&outcome.losses.ptr[at].reason);
  }
  free(outcome.losses.ptr);
  return true;
}

static void add_attribute(struct buffer *to, uint32_t number, const char *key, const char *text) {
  struct buffer value = {0}, pair = {0};
  append_bytes_field(&value, STRING_VALUE, text, strlen(text));
  append_bytes_field(&pair, KEY, key, strlen(key));
  append_bytes_field(&pair, VALUE, value.start, value.length);
  append_bytes_field(to, number, pair.start, pair.length);
  free(value.start);
  free(pair.start);
}

// A log record: its severity, if it has one, and `k`, if it has that.
static void add_record(struct buffer *to, uint8_t severity_number, const char *k) {
  struct buffer record = {0};
  const uint8_t severity_field[] = {SEVERITY_NUMBER << 3 | WIRE_VARINT, severity_number};
  if (severity_number > 0) append(&record, severity_field, sizeof severity_field);
  add_attribute(&record, LOG_ATTRIBUTES, "other", "stays");
  if (k != NULL) add_attribute(&record, LOG_ATTRIBUTES, "k", k);
  append_bytes_field(to, ITEMS, record.start, record.length);
  free(record.start);
}

// A request with what `scope` holds.
static struct buffer request(struct buffer scope) {
  struct buffer resource = {0}, group = {0}, whole = {0};
  add_attribute(&resource, 1, "service.name", "shop");
  append_bytes_field(&group, 1, resource.start, resource.length);
  append_bytes_field(&group, SCOPE_GROUPS, scope.start, scope.length);
  append_bytes_field(&whole, RESOURCE_GROUPS, group.start, group.length);
  free(resource.start);
  free(group.start);
  free(scope.start);
  return whole;
}

static struct buffer records(uint8_t first, uint8_t second, const char *k) {
  struct buffer scope = {0};
  add_record(&scope, first, k);
  add_record(&scope, second, k);
  return request(scope);
}

static void test_what_comes_out(void) {
  const exports_tidegate_plugin_guest_signal_t logs = TIDEGATE_PLUGIN_TYPES_SIGNAL_LOGS;
  check(configure(logs, "{\"key\":\"k\",\"value\":\"new\",\"drop_below\":9}") == NULL, "the configuration is read");
  struct buffer batch = records(9, 0, "old"), expected = records(9, 0, "new"), out;
  uint64_t lost;
  check(process(batch.start, batch.length, &out, &lost), "a batch goes through");
  check(out.length == expected.length && memcmp(out.start, expected.start, out.length) == 0, "the attribute is set");
  check(lost == 0, "records without a severity stay");
  free(batch.start), free(expected.start), free(out.start);

  batch = records(5, 8, NULL);
  check(process(batch.start, batch.length, &out, &lost) && out.length == 0 && lost == 2, "all may go");
  free(batch.start), free(out.start);

  check(process((const uint8_t *)"", 0, &out, &lost) && out.length == 0, "an empty batch stays empty");
  free(out.start);
}

static void test_broken_batches(void) {
  struct buffer batch = records(9, 17, "old"), out;
  uint64_t lost;
  bool whole = true;
  for (size_t length = 1; length < batch.length; length++) {
    whole &= !process(batch.start, length, &out, &lost);
    free(out.start);
  }
  check(whole, "a batch that is cut off is an error, wherever it ends");
  for (size_t at = 0; at < batch.length; at++) {
    uint8_t before = batch.start[at];
    for (int byte = 0; byte < 256; byte++) {
      batch.start[at] = (uint8_t)byte;
      process(batch.start, batch.length, &out, &lost);
      free(out.start);
    }
    batch.start[at] = before;
  }
  check(true, "no byte that is wrong leads out of the batch");
  free(batch.start);
}

static void test_configurations(void) {
  static const char *const wrong[] = {
      "",      "{",      "[]",     "{\"key\":\"k\"}", "{\"value\":\"v\"}", "{\"key\":1,\"value\":\"v\"}",
      "{\"\"", "{\"key", "{\"key\":\"k\",\"value\":\"v\",\"other\":1}", "{\"key\":\"k\",\"value\":\"v\",\"drop_below\":25}",
      "{\"key\":\"\",\"value\":\"v\"}", "{\"key\":\"\\u0041\",\"value\":\"v\"}",
  };
  for (size_t at = 0; at < sizeof wrong / sizeof *wrong; at++) {
    check(configure(TIDEGATE_PLUGIN_TYPES_SIGNAL_TRACES, wrong[at]) != NULL, wrong[at]);
  }
  char *long_text = malloc(TEXT_MAX + 100);
  int head = sprintf(long_text, "{\"value\":\"v\",\"key\":\"");
  memset(long_text + head, 'x', TEXT_MAX + 1);
  strcpy(long_text + head + TEXT_MAX + 1, "\"}");
  check(configure(TIDEGATE_PLUGIN_TYPES_SIGNAL_TRACES, long_text) != NULL, "a key that is too long is refused");
  strcpy(long_text + head + TEXT_MAX, "\"}");
  check(configure(TIDEGATE_PLUGIN_TYPES_SIGNAL_TRACES, long_text) == NULL, "a key of 1024 letters is not");
  free(long_text);
}

int main(void) {
  test_configurations();
  test_what_comes_out();
  test_broken_batches();
  free(attribute.start);
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}

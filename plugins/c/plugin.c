// Sets an attribute of every span and log record, and drops log records below a severity.
//
//     [processors.wasm.config]
//     key = "environment"
//     value = "production"
//     drop_below = 9            # the severity number of "info"; by default nothing is dropped
#include <stdlib.h>
#include <string.h>

#include "bindings/processor.h"
#include "config.h"
#include "otlp.h"

enum { RESOURCE_GROUPS = 1, SCOPE_GROUPS = 2, ITEMS = 2, KEY = 1, VALUE = 2, STRING_VALUE = 1, SEVERITY_NUMBER = 2 };

// The field of an item that holds its attributes.
enum { SPAN_ATTRIBUTES = 9, LOG_ATTRIBUTES = 6 };

static struct config config;
static bool is_logs;
static uint64_t dropped;

// A message ended where it should not have. The agent checks what it hands over, so this says that there is a bug.
static bool is_cut_off;

// The attribute, encoded as a field of an item.
static struct buffer attribute;

static uint32_t attributes_field(void) { return is_logs ? LOG_ATTRIBUTES : SPAN_ATTRIBUTES; }

static void encode_attribute(void) {
  struct buffer value = {0}, pair = {0};
  append_bytes_field(&value, STRING_VALUE, config.value, config.value_length);
  append_bytes_field(&pair, KEY, config.key, config.key_length);
  append_bytes_field(&pair, VALUE, value.start, value.length);
  append_bytes_field(&attribute, attributes_field(), pair.start, pair.length);
  attribute.failed |= value.failed || pair.failed;
  free(value.start);
  free(pair.start);
}

static bool has_key(struct slice pair) {
  struct field field;
  while (next_field(&pair, &field)) {
    if (field.number == KEY && field.type == WIRE_BYTES) return slice_is(field.content, config.key, config.key_length);
  }
  return false;
}

// The severity number of a log record, or 0.
static uint64_t severity(struct slice record) {
  uint64_t found = 0;
  struct field field;
  while (next_field(&record, &field)) {
    if (field.number == SEVERITY_NUMBER && field.type == WIRE_VARINT) found = field.varint;
  }
  return found;
}

// Whether the item stays.
static bool item(struct buffer *out, struct slice message) {
  if (is_logs && config.drop_below > 0) {
    // A record without a severity stays: nobody said that it is not important.
    uint64_t found = severity(message);
    if (found > 0 && found < config.drop_below) {
      dropped++;
      return false;
    }
  }
  size_t begin = begin_message(out);
  struct slice copied = {message.at, message.at};
  struct field field;
  while (next_field(&message, &field)) {
    if (field.number == attributes_field() && field.type == WIRE_BYTES && has_key(field.content)) {
      copied.end = field.whole.at;
      append_slice(out, copied);
      copied.at = field.whole.end;
    }
  }
  is_cut_off |= message.at != message.end;
  copied.end = message.end;
  append_slice(out, copied);
  append(out, attribute.start, attribute.length);
  end_message(out, begin, ITEMS);
  return true;
}

typedef bool visitor(struct buffer *out, struct slice message);

// Copies a message; `visit` writes the fields `number`. Whether one of these is left.
static bool copy(struct buffer *out, struct slice message, uint32_t number, visitor *visit) {
  bool left = false, there = false;
  struct field field;
  while (next_field(&message, &field)) {
    if (field.number != number || field.type != WIRE_BYTES) {
      append_slice(out, field.whole);
      continue;
    }
    there = true;
    left |= visit(out, field.content);
  }
  is_cut_off |= message.at != message.end;
  return left || !there;
}

// Copies a group without those of its parts that are empty now.
static bool group(struct buffer *out, struct slice message, uint32_t own, uint32_t parts, visitor *visit) {
  size_t before = out->length;
  size_t begin = begin_message(out);
  bool left = copy(out, message, parts, visit);
  end_message(out, begin, own);
  if (!left && !out->failed) out->length = before;
  return left;
}

static bool scope_group(struct buffer *out, struct slice message) { return group(out, message, SCOPE_GROUPS, ITEMS, item); }

static bool resource_group(struct buffer *out, struct slice message) {
  return group(out, message, RESOURCE_GROUPS, SCOPE_GROUPS, scope_group);
}

void exports_tidegate_plugin_guest_describe(exports_tidegate_plugin_guest_description_t *description) {
  memset(description, 0, sizeof *description);
  processor_string_dup(&description->name, "c-example");
  processor_string_dup(&description->version, "0.1.0");
  processor_string_dup(&description->summary, "Sets an attribute, and drops log records below a severity");
  static const uint8_t signals[] = {TIDEGATE_PLUGIN_TYPES_SIGNAL_TRACES, TIDEGATE_PLUGIN_TYPES_SIGNAL_LOGS};
  description->signals.ptr = malloc(sizeof signals);
  if (description->signals.ptr == NULL) __builtin_trap();
  memcpy(description->signals.ptr, signals, sizeof signals);
  description->signals.len = sizeof signals;
}

bool exports_tidegate_plugin_guest_configure(exports_tidegate_plugin_guest_signal_t signal, processor_string_t *json,
                                             exports_tidegate_plugin_guest_setup_t *setup, processor_string_t *problem) {
  is_logs = signal == TIDEGATE_PLUGIN_TYPES_SIGNAL_LOGS;
  attribute.length = 0;
  const char *wrong = read_config(&config, (const char *)json->ptr, json->len);
  processor_string_free(json);
  if (wrong == NULL) {
    encode_attribute();
    if (attribute.failed) wrong = "there is no memory";
  }
  if (wrong != NULL) {
    processor_string_dup(problem, wrong);
    return false;
  }
  setup->tick_interval_ms.is_some = false;
  return true;
}

bool exports_tidegate_plugin_guest_process(processor_list_u8_t *batch, exports_tidegate_plugin_guest_outcome_t *outcome,
                                           processor_string_t *problem) {
  struct buffer out = {0};
  struct slice request = {batch->ptr, batch->ptr + batch->len};
  dropped = 0;
  is_cut_off = false;
  bool left = copy(&out, request, RESOURCE_GROUPS, resource_group);
  processor_list_u8_free(batch);
  if (out.failed || is_cut_off) {
    free(out.start);
    processor_string_dup(problem, out.failed ? "there is no memory" : "the batch is cut off");
    return false;
  }
  memset(outcome, 0, sizeof *outcome);
  if (!left || out.length == 0) {
    free(out.start);
    outcome->data.tag = TIDEGATE_PLUGIN_TYPES_DATA_NOTHING;
  } else {
    outcome->data.tag = TIDEGATE_PLUGIN_TYPES_DATA_REPLACED;
    outcome->data.val.replaced.ptr = out.start;
    outcome->data.val.replaced.len = out.length;
  }
  if (dropped > 0) {
    outcome->losses.ptr = calloc(1, sizeof *outcome->losses.ptr);
    if (outcome->losses.ptr == NULL) __builtin_trap();
    outcome->losses.len = 1;
    processor_string_dup(&outcome->losses.ptr->reason, "low_severity");
    outcome->losses.ptr->items = dropped;
  }
  return true;
}

void exports_tidegate_plugin_guest_tick(void) {}

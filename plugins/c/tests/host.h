// The host, for tests on this machine: log lines go to standard error, nobody counts, and there are no files.
#pragma once

#include <stdio.h>

#include "../bindings/processor.h"

void tidegate_plugin_host_log(tidegate_plugin_host_level_t level, processor_string_t *message) {
  fprintf(stderr, "log, level %d: %.*s\n", (int)level, (int)message->len, (const char *)message->ptr);
}

uint32_t tidegate_plugin_host_metric(tidegate_plugin_host_metric_kind_t kind, processor_string_t *name,
                                     processor_string_t *label) {
  (void)kind, (void)name, (void)label;
  return 0;
}

void tidegate_plugin_host_record(uint32_t metric, double value) { (void)metric, (void)value; }

bool tidegate_plugin_host_file(processor_string_t *name, processor_list_u8_t *ret) {
  (void)name, (void)ret;
  return false;
}

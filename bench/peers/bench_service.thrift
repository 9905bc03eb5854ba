// SPDX-License-Identifier: Apache-2.0
service Bench {
  void noop(),
  i64 make(),
  void release(1: i64 number),
  double total(1: binary array),
  binary get()
}

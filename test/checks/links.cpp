// SPDX-License-Identifier: GPL-3.0-or-later
// A program that does nothing: it links the whole of one room with what that room may look into, and no more.

int main() { return 0; }

// A master without a will of its own, to test the test bench: registers drive m_axi_* directly, so that a test can
// behave well or break any rule.  Writing 1 to a VALID bit raises it; it falls after READY, or when 0 is written.
//   0x00 AW/AR address   0x04 len   0x08 W data (low 32 bits)   0x0c {wlast, wstrb[7:0]}
//   0x10 valids {ar, w, aw}   0x14 readies {b, r}   0x18 read: last R data   0x1c read: {seen R count, bresp, rresp}
//   0x20 trace {done[2:0], start[2:0]} for one cycle, pc = 0x04   0x24 irq   0x28 size/burst
module rowcast (
    input clk, input rst, output irq,
    input [11:0] s_axil_awaddr, input [2:0] s_axil_awprot, input s_axil_awvalid, output s_axil_awready,
    input [31:0] s_axil_wdata, input [3:0] s_axil_wstrb, input s_axil_wvalid, output s_axil_wready,
    output [1:0] s_axil_bresp, output reg s_axil_bvalid, input s_axil_bready,
    input [11:0] s_axil_araddr, input [2:0] s_axil_arprot, input s_axil_arvalid, output s_axil_arready,
    output reg [31:0] s_axil_rdata, output [1:0] s_axil_rresp, output reg s_axil_rvalid, input s_axil_rready,
    output m_axi_awid, output [39:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize,
    output [1:0] m_axi_awburst, output reg m_axi_awvalid, input m_axi_awready,
    output [63:0] m_axi_wdata, output [7:0] m_axi_wstrb, output m_axi_wlast, output reg m_axi_wvalid,
    input m_axi_wready,
    input m_axi_bid, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    output m_axi_arid, output [39:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize,
    output [1:0] m_axi_arburst, output reg m_axi_arvalid, input m_axi_arready,
    input m_axi_rid, input [63:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast, input m_axi_rvalid,
    output m_axi_rready,
    output trace_load_start, output [31:0] trace_load_pc, output trace_load_done,
    output trace_exec_start, output [31:0] trace_exec_pc, output trace_exec_done,
    output trace_store_start, output [31:0] trace_store_pc, output trace_store_done
);
    reg [31:0] addr, len, data, strobe, cycle_r_first, cycle_ar;
    reg [31:0] now;
    reg [1:0] readies;
    reg [5:0] trace;
    reg [4:0] shape;
    reg interrupt;
    reg [63:0] r_data;
    reg [1:0] r_resp, b_resp;
    reg [15:0] r_count;

    assign irq = interrupt;
    assign {m_axi_awid, m_axi_arid} = 2'b00;
    assign m_axi_awaddr = {8'h00, addr};
    assign m_axi_araddr = {8'h00, addr};
    assign m_axi_awlen = len[7:0];
    assign m_axi_arlen = len[7:0];
    assign m_axi_awsize = shape[2:0];
    assign m_axi_arsize = shape[2:0];
    assign m_axi_awburst = shape[4:3];
    assign m_axi_arburst = shape[4:3];
    assign m_axi_wdata = {~data, data};
    assign m_axi_wstrb = strobe[7:0];
    assign m_axi_wlast = strobe[8];
    assign {m_axi_bready, m_axi_rready} = readies;
    assign {trace_store_done, trace_exec_done, trace_load_done} = trace[5:3];
    assign {trace_store_start, trace_exec_start, trace_load_start} = trace[2:0];
    assign trace_load_pc = len;
    assign trace_exec_pc = len;
    assign trace_store_pc = len;

    wire write = s_axil_awvalid & s_axil_wvalid & ~s_axil_bvalid;
    assign s_axil_awready = write;
    assign s_axil_wready = write;
    assign s_axil_bresp = s_axil_awaddr[11] ? 2'b10 : 2'b00;
    assign s_axil_arready = ~s_axil_rvalid;
    assign s_axil_rresp = 2'b00;

    always @(posedge clk) begin
        now <= now + 1;
        trace <= 0;
        if (m_axi_awvalid & m_axi_awready) m_axi_awvalid <= 0;
        if (m_axi_wvalid & m_axi_wready) m_axi_wvalid <= 0;
        if (m_axi_arvalid & m_axi_arready) begin
            m_axi_arvalid <= 0;
            cycle_ar <= now;
        end
        if (m_axi_rvalid & m_axi_rready) begin
            r_data <= m_axi_rdata;
            r_resp <= m_axi_rresp;
            r_count <= r_count + 1;
            cycle_r_first <= r_count == 0 ? now : cycle_r_first;
        end
        if (m_axi_bvalid & m_axi_bready) b_resp <= m_axi_bresp;
        if (s_axil_bready) s_axil_bvalid <= 0;
        if (write) begin
            s_axil_bvalid <= 1;
            case (s_axil_awaddr[7:0])
                8'h00: addr <= s_axil_wdata;
                8'h04: len <= s_axil_wdata;
                8'h08: data <= s_axil_wdata;
                8'h0c: strobe <= s_axil_wdata;
                8'h10: {m_axi_arvalid, m_axi_wvalid, m_axi_awvalid} <= s_axil_wdata[2:0];
                8'h14: readies <= s_axil_wdata[1:0];
                8'h20: trace <= s_axil_wdata[5:0];
                8'h24: interrupt <= s_axil_wdata[0];
                8'h28: shape <= s_axil_wdata[4:0];
                default: ;
            endcase
        end
        if (s_axil_rready) s_axil_rvalid <= 0;
        if (s_axil_arvalid & s_axil_arready) begin
            s_axil_rvalid <= 1;
            case (s_axil_araddr[7:0])
                8'h18: s_axil_rdata <= r_data[31:0];
                8'h1c: s_axil_rdata <= {r_count, 12'h000, b_resp, r_resp};
                8'h2c: s_axil_rdata <= cycle_r_first - cycle_ar;
                default: s_axil_rdata <= addr;
            endcase
        end
        if (rst) begin
            now <= 0; trace <= 0; readies <= 0; interrupt <= 0; r_count <= 0; shape <= 5'b01_011; strobe <= 32'h1ff;
            m_axi_awvalid <= 0; m_axi_wvalid <= 0; m_axi_arvalid <= 0; s_axil_bvalid <= 0; s_axil_rvalid <= 0;
            addr <= 0; len <= 0; data <= 0; r_resp <= 0; b_resp <= 0;
        end
    end
endmodule
